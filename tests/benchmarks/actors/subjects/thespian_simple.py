"""Thespian without any concurrency: an ask runs the actor before it returns."""

from tests.benchmarks.actors.subjects.thespian_systems import subject

SUBJECT = subject("simpleSystemBase", "thespian", "caller's thread", apart=False, most=1_000)
