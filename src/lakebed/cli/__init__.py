"""The command line, one module per group of commands. Stands above every layer; imports the heavy world late."""
