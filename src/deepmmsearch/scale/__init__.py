"""Work spread over several machines."""
