"""Commands of the library: each a thin layer over a function, torch loaded when it runs."""
