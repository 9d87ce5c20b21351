"""Hands over time: frames from files and cameras, boxes that follow hands, smoothing, one shape per person."""
