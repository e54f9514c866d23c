"""What happened, for people and machines that watch: never waits, loses nothing but detail."""
