//! eblora: continual low-rank adaptation, the library behind the command line.
