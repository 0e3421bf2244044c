"""Names and message types that several components agree on. Changing one breaks the others, so names are only added."""
