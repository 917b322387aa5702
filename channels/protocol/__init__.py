"""The rules of one client's conversation: its session and memberships, its link, and the limit on its work."""
