"""The bus as it is to be: streams, durables, accounts and the server's configuration, all made from the topic table."""
