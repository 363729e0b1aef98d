-- The rows go on to the next blocks, and into the table that the configuration names, if it names one.
SELECT *
FROM orders
WHERE day = {{ ds | sql_literal }}
