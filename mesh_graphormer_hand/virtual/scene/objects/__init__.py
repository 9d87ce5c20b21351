"""Objects that a config's `objects` adds to scenes, one file each: the file's name is the object's."""
