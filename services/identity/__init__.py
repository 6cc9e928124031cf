"""Identity: projects, service accounts and their keys, groups, roles and policies; who logs in gets a token here.

Hears: its own facts only, in the directory that every service has.
Says: state.project, state.account, state.group, state.role, state.key, state.policy, state.perimeter, audit.*.
Keeps: all of these in state, and the private halves of the token keys, sealed with the root key.
"""
