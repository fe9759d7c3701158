-- One at a time lets a job take over from another, or two of them could close a circle. Here there is only one anyway.
SELECT 1
