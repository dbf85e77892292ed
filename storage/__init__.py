"""What outlives a process: settings, the ledger, hot state, blobs, bundles and catalogue files."""
