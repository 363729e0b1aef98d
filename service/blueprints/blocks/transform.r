# df_1 is what the first upstream block returned.
transform <- function(df_1, ...) {
  df_1[!is.na(df_1$amount), ]
}
