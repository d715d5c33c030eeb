"""Commands that ask a server; each imports the client when it runs, so that --help is quick."""
