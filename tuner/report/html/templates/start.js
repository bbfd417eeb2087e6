startTable();
performance.mark("usable");
startCharts();
addEventListener("load", startTrial);
