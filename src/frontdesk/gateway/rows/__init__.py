"""Sessions as rows that follow: what the feeds, the operators' lists and the dashboard show.

local_rows      the rows of this process, and their changes while somebody reads them
last_hour       what began and ended, minute by minute
last_ends       the last ends, with their reasons
row_filter      which rows are asked for, and in which order
row_stream      one reader's stream of them
"""
