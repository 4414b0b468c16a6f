"""An epoch: what is asked, kept and handed out."""
