"""Operators: what is computed. No Kafka, no Postgres, no clock but the one handed in."""
