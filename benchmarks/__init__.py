"""Claims about speed and memory, each measured in one run: `python -m benchmarks [NAME …]`. None decides a test."""
