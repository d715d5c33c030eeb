"""The service: durable jobs over the library, behind an HTTP interface with keys."""
