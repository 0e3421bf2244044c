"""Code that several components share: process contract, wire formats, contracts between components, and API types.

It imports no component. The layers inside: `api` may use `wire`, `contracts` and `process`; `wire` may use `contracts`
and `process`; `contracts` may use `process`.
"""
