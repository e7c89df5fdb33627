"""One module for each kind of recording; each gives a `stream.recordings.Recording`."""
