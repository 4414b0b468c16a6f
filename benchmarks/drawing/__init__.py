"""The paper's figures, one a file, from the lines of results files."""
