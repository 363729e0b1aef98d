-- {{ df_1 }} is what the first upstream block returned.
SELECT day, sum(amount) AS amount
FROM {{ df_1 }}
GROUP BY day
