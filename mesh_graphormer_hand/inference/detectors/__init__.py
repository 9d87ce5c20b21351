"""Where the hands of a photo are: detectors behind one small interface (`base`), found by name (`choose`)."""
