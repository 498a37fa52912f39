"""What a user brings: towers, satellites and weather in files of services."""
