"""The pure core: everything that decides, and nothing that fetches, stores or looks at a clock."""
