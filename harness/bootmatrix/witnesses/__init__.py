"""What was seen of a guest, as data, before anybody says whether it was right. Pure."""
