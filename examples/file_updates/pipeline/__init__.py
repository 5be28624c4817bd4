"""What is done with one file: it is read, its text taken out, summed up, and made a vector of.

All of this runs in threads and knows nothing of events, queues and tables. A file is whatever
somebody put there: each step is bounded in what it takes and gives.
"""
