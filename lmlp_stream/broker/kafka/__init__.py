"""The log on Apache Kafka, through kafka-python: the only package that imports it.

Clients are made after a fork, never carried across one. Readers assign and seek; they join no consumer group.
"""
