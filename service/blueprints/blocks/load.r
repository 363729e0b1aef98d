# The data frame goes on to the next blocks.
load_data <- function() {
  data.frame(day = global_vars["ds"], amount = 1.5)
}
