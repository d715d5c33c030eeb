"""Maps that are solved rather than trained."""
