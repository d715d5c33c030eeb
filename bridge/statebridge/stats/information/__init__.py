"""Information in bits: of a message about its row, and of a channel by its use."""
