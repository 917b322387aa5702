"""The story of a crash: each fault of a recording with its consequences, as text, pictures and figures."""
