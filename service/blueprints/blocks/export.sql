-- These rows go into the table that the configuration names.
SELECT *
FROM {{ df_1 }}
