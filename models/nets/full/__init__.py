"""The full-size generators: MusicLDM and AudioLDM 2, from their model classes and named weights."""
