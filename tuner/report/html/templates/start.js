startTable();
performance.mark("usable");
startCharts();
addEventListener("load", startTrial);
if (typeof startLive === "function") startLive();
