"""The virtual hand: anatomy, poses, gestures, skin."""
