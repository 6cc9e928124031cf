"""Identity as every service needs it: who calls, and whether they may. Issuing tokens is the identity service's."""
