"""What is true: frozen records and pure rules. No clock, no input or output, no asyncio."""
