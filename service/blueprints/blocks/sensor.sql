-- The run is parked until this query gives a row.
SELECT 1
FROM orders
WHERE day = {{ ds | sql_literal }}
LIMIT 1
