"""Sources: whose content a condition writes. Every file here registers some, without torch."""
