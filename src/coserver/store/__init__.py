"""The promise kept in SQL: one contract, two databases."""
