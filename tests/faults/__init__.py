"""What a running server does when what it stands on fails: no false yes, a clear no, and back by itself."""
