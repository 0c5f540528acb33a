"""The sans-IO core: states, credit, scheduling, one stream, many streams. It knows no clock, socket or task."""
