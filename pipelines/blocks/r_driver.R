# Runs one block: Rscript --vanilla r_driver.R FOLDER. The folder has block.R, values.R and the inputs; what
# the block returns, or how it failed, is written into it.

folder <- commandArgs(trailingOnly = TRUE)[1]
place <- function(name) file.path(folder, name)
options(keep.source = TRUE, warn = 1)

settings <- new.env()
sys.source(place("values.R"), envir = settings)

fail <- function(message, line = 0L) {
  writeLines(c(as.character(line), enc2utf8(message)), place("error.txt"), useBytes = TRUE)
  quit(save = "no", status = 3L)
}

# --- frames ------------------------------------------------------------------------------------------

read_csv <- function(file, kinds) {
  if (settings$exchange == "data.table") {
    frame <- data.table::fread(file, sep = ",", header = TRUE, na.strings = "", colClasses = "character",
                               data.table = FALSE, encoding = "UTF-8", check.names = FALSE)
    # fread keeps the quotes of a text doubled, as they are in the file.
    frame[] <- lapply(frame, function(column) gsub('""', '"', column, fixed = TRUE))
  } else {
    frame <- utils::read.csv(file, na.strings = "", colClasses = "character", check.names = FALSE,
                             encoding = "UTF-8", strip.white = FALSE)
  }
  for (position in seq_along(kinds)) frame[[position]] <- typed(frame[[position]], kinds[[position]])
  frame
}

typed <- function(text, kind) {
  switch(kind,
    logical = as.logical(text),
    integer = as.integer(text),
    double = as.double(text),
    date = as.Date(text),
    time = as.POSIXct(strptime(text, "%Y-%m-%d %H:%M:%OS", tz = "UTC")),
    text)
}

read_frame <- function(input) {
  file <- place(input$file)
  switch(settings$exchange,
    nanoparquet = as.data.frame(nanoparquet::read_parquet(file)),
    arrow = as.data.frame(arrow::read_parquet(file)),
    read_csv(file, input$kinds))
}

kind_of <- function(column) {
  if (inherits(column, "POSIXt")) "time"
  else if (inherits(column, "Date")) "date"
  else if (inherits(column, "integer64")) "integer"
  else if (is.factor(column) || is.character(column)) "text"
  else if (is.logical(column)) "logical"
  else if (is.integer(column)) "integer"
  else if (is.numeric(column)) "double"
  else ""
}

as_text <- function(column, kind) {
  text <- switch(kind,
    # format() cuts what stands behind its last digit off; half a digit more makes that rounding.
    time = format(as.POSIXct(column) + 5e-7, "%Y-%m-%d %H:%M:%OS6", tz = "UTC"),
    integer = if (is.integer(column)) sprintf("%d", column) else as.character(column),
    double = sprintf("%.17g", as.double(column)),
    as.character(column))
  text[is.na(column) & !(is.double(column) & is.nan(column))] <- NA_character_
  enc2utf8(text)
}

write_frame <- function(frame) {
  frame <- as.data.frame(frame, stringsAsFactors = FALSE)
  if (settings$exchange == "nanoparquet") return(nanoparquet::write_parquet(frame, place("output.parquet")))
  if (settings$exchange == "arrow") return(arrow::write_parquet(frame, place("output.parquet")))
  kinds <- vapply(frame, kind_of, "")
  wrong <- names(frame)[kinds == ""]
  if (length(wrong)) {
    fail(sprintf("the column '%s' is a %s, which a table in CSV cannot hold; make it a vector of texts or numbers",
                 wrong[[1]], class(frame[[wrong[[1]]]])[[1]]))
  }
  names <- names(frame)
  frame <- as.data.frame(Map(as_text, frame, kinds), stringsAsFactors = FALSE)
  names(frame) <- enc2utf8(names)
  if (settings$exchange == "data.table") {
    data.table::fwrite(frame, place("output.csv"), na = "", quote = TRUE, qmethod = "double")
  } else {
    utils::write.csv(frame, place("output.csv"), na = "", row.names = FALSE, fileEncoding = "UTF-8")
  }
  writeLines(unname(kinds), place("output.kinds"))
}

write_value <- function(value) {
  if (!requireNamespace("jsonlite", quietly = TRUE)) {
    fail("it returned a value that is no data frame, which needs the package jsonlite; return a data.frame")
  }
  text <- jsonlite::toJSON(value, auto_unbox = TRUE, digits = NA, null = "null", na = "null", POSIXt = "ISO8601")
  writeLines(enc2utf8(text), place("output.json"), useBytes = TRUE)
}

# --- the block ---------------------------------------------------------------------------------------

block <- new.env(parent = globalenv())
block$global_vars <- settings$global_vars
block$kwargs <- settings$kwargs

if (!requireNamespace("pacman", quietly = TRUE)) {
  # Blocks of Mage load their packages with pacman: where it lacks, theirs are loaded by R itself.
  p_load <- function(..., character.only = FALSE) {
    wanted <- if (character.only) unlist(list(...)) else vapply(as.list(substitute(list(...)))[-1], as.character, "")
    for (name in wanted) base::library(name, character.only = TRUE)
  }
  is_pacman <- function(name) identical(as.character(name), "pacman")
  instead <- function(plain) {
    force(plain)
    function(package, ...) {
      if (is_pacman(substitute(package))) return(invisible(TRUE))
      call <- sys.call()
      call[[1]] <- plain
      eval.parent(call)
    }
  }
  block$p_load <- p_load
  block$library <- instead(quote(base::library))
  block$require <- instead(quote(base::require))
  block$`::` <- function(package, name) {
    if (is_pacman(substitute(package))) return(p_load)
    getExportedValue(as.character(substitute(package)), as.character(substitute(name)))
  }
}

line_of <- function(calls) {
  for (call in rev(calls)) {
    source <- attr(call, "srcref")
    if (!is.null(source) && identical(attr(source, "srcfile")$filename, "block.R")) return(as.integer(source)[1])
  }
  0L
}

line_in <- function(message) {
  found <- regmatches(message, regexec("^block\\.R:([0-9]+):", message))[[1]]
  if (length(found) == 2L) as.integer(found[2]) else 0L
}

code <- readLines(place("block.R"), encoding = "UTF-8", warn = FALSE)
parsed <- tryCatch(
  parse(text = code, keep.source = TRUE, srcfile = srcfilecopy("block.R", code)),
  error = function(error) fail(conditionMessage(error), line_in(conditionMessage(error))))

run <- function() {
  for (position in seq_along(parsed)) {
    at <<- as.integer(attr(parsed, "srcref")[[position]])[1]
    eval(parsed[[position]], block)
  }
  at <<- 0L
  name <- settings$wanted
  if (!exists(name, envir = block, inherits = FALSE)) {
    fail(sprintf("the block defines no function %s(); write one", name))
  }
  inputs <- paste0("df_", seq_along(settings$inputs), recycle0 = TRUE)
  for (position in seq_along(inputs)) {
    input <- settings$inputs[[position]]
    assign(inputs[[position]], if (is.null(input$file)) input$value else read_frame(input), envir = block)
  }
  # By name, so that a call in a message does not hold whole tables.
  eval(as.call(lapply(c(name, inputs), as.name)), block)
}

at <- 0L
result <- withCallingHandlers(run(), error = function(error) {
  line <- line_of(sys.calls())
  fail(conditionMessage(error), if (line) line else at)
})

if (is.data.frame(result) || is.matrix(result)) {
  write_frame(result)
} else if (!is.null(result) && settings$returns) {
  write_value(result)
}
