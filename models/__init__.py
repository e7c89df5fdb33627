"""Arrays in, arrays out: features, decoders and sound models. No files, no clock, no asyncio."""
