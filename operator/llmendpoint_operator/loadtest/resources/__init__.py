"""Pure builders of the children of a LoadTest: run document, questions, result, rights and Job."""
