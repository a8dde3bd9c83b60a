"""WeChat's official-account protocol.

Pure but for `client.py`: bytes, the time and random bytes come in, bytes and values go out.
"""
