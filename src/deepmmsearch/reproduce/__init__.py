"""The studies that make the papers' tables and curves anew."""
