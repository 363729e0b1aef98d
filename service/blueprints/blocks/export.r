# df_1 is what the first upstream block returned.
export_data <- function(df_1, ...) {
  write.csv(df_1, "orders.csv", row.names = FALSE)
}
