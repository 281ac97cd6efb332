"""That each benchmark runs and says what it should; not how fast anything is."""
