"""Files and pages to text, in a process that can be killed."""
