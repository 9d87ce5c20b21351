"""Photos, videos and cameras in; pictures, meshes and numbers out as files (`run`)."""
